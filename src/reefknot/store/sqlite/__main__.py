"""``python -m reefknot.store.sqlite`` is the writer's process; ``host.WriterProcess`` starts it."""

from reefknot.store.sqlite.host import main

main()
