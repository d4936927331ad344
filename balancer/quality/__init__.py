"""What reports are worth: how good each way between an access group and a node is believed to be."""
