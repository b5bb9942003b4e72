"""Statistics of a dataset, and what follows from them: class weights and samplers."""
