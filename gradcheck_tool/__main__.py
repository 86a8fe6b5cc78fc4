"""`python -m gradcheck_tool` is `gradtool`."""

from gradcheck_tool.cli import main

if __name__ == "__main__":
    main()
