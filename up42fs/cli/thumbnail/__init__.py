"""`up42fs thumbnail`: pictures of deliveries and images for file managers."""
