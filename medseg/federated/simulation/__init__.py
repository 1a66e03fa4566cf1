"""Sites that are processes and folders of one machine, and what a training together is compared with."""
