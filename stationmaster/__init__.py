"""The model: role catalogue, inventory rules, typed findings and the bundle."""
