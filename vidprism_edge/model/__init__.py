"""The networks in torch. Nothing here is needed on a device."""
