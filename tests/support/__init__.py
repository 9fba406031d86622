"""What several tests stand on: servers, data, toy stages."""
