"""What can keep up42fs from working, looked at one by one, each with its cure."""
