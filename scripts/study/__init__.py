"""The study file: its models, the size catalogue, the schedule, and the run table made from them."""
