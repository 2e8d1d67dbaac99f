"""The python runtime: a zygote that imports modules once and forks workers. PROTOCOL.md, sections 3.2, 3.3 and 3.6."""
