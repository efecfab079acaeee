"""Ready-made experiments as YAML; ``lit-rl fit --config ppo_cartpole`` finds them by name."""

if __name__ == "configs":
    raise ImportError("import `lit_rl.configs`, not `configs`: another project's folder may have that name")
