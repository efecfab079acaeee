"""An encoder that is trained alone, by what it lets one predict."""
