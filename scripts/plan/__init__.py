"""What a study takes before its first job: time, bytes, jobs, cost; and held against a finished run."""
