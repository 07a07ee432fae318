"""Web frameworks: what a branch says becomes the framework's answer, and what it is asked becomes a barrier.

One module for each framework, imported by the application that has it: ``starlette``, ``fastapi``,
``flask``, ``django`` and ``grpc``. What they have in common is in ``answers`` and ``checkback``.
"""
