"""`up42fs warm`: plans which bytes to prefetch, then reads them through the mount."""
