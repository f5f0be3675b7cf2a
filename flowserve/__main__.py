"""python -m flowserve"""

from flowserve.cli import main

if __name__ == "__main__":
    main(prog_name="flowserve")
