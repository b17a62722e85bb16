"""Real models, small enough to read: run one with `coordinator worker coordinator_examples.digits:worker`."""
