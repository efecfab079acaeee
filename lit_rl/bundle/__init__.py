"""A trained policy as a folder that travels: network, contract with the environment, and proof."""
