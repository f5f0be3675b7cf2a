"""What flowserve promises, and the commands that check it. See README.md."""
