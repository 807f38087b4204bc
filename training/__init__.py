"""From a use case and its data to a registered model: settings, data, search, export, gate, registry."""
