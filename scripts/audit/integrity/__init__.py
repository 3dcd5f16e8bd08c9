"""Is a suite complete, unaltered, one chain from step 0?"""
