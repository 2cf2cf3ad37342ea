"""`up42fs warm`: plans what to read ahead of work, then reads it through the mount."""
