"""Which strategy trains a model best: tasks, strategies, design, engines, store, statistics, report."""
