"""What sites tell of their data before they train together: fingerprints asked for, compared, and agreed on."""
