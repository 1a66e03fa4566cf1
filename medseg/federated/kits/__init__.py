"""Real sites: start-up kits made, joined with and administered; NVFLARE's processes held, and what a site lets happen."""
