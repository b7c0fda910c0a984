"""Starts `train-scenario`, to be started itself in a debugger: set a break point in your scenario and run

python -m pdb scripts/train_scenario.py SCENARIO --trainer.force_eager true
"""

from tfaip_like._cli.train_scenario import main

if __name__ == "__main__":
    main()
