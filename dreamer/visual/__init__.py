"""Looking at what was learned: recorded episodes, open-loop predictions, figures and moving pictures."""
