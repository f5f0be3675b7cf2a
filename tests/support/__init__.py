"""What several test files need: clients in literal bytes, servers and programs to start, applications to serve."""
