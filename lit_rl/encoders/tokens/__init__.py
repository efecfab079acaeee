"""What encoders of parts (the joints of a robot, the users of a network) are made of."""
