"""The roles of the clustering graph: proposer, assigner, critic, refiner."""
