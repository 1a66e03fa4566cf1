"""Training across hospitals: sites, jobs, rounds, privacy. The only room that knows NVFLARE.

Importing it loads neither NVFLARE nor torch: modules that need them are loaded when a command or a job names them.
"""
