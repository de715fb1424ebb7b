"""The program that the parent starts: `python -m taskstream.consumer.child`."""

from taskstream.consumer.child.main import main

if __name__ == "__main__":
    main()
