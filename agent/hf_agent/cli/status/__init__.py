"""What `hf-agent status` shows on a terminal: looks at an agent, and what is drawn of them."""
