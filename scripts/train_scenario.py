"""Entry point of `train-scenario` for debuggers.

Set a breakpoint in your scenario, then run

python -m pdb scripts/train_scenario.py SCENARIO --trainer.force_eager true
"""

from tfaip_like._cli.train_scenario import main

if __name__ == "__main__":
    main()
