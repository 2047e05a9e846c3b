"""What a capture will take, before it is begun: bytes, files, time and free disk."""
