"""Learning: policy, sampler, rewards, losses, and the loop that joins them. Knows no socket, no database, no screen."""
