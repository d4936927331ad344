"""Records of calls: who, whom, when, over which media node, who hung up; written to SQL beside signalling."""
