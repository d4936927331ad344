"""Who may register: users, their domains, and hashes of their passwords."""
