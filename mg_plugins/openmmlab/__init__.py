"""What exists because of MMEngine and MMAction2."""
