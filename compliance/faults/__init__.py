"""What flowserve does when something breaks beside it: processes, disks, descriptors, clocks, files, peers."""
