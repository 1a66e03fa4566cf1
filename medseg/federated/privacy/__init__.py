"""What may leave a site, and what is done to it before it does: audit, clipping and noise, compression, encryption.

Every file here is the site's own: filters run inside the hospital, after training and before anything is sent, and refuse
what they do not know. Importing it loads neither NVFLARE nor torch.
"""
