"""Binarizers: from an embedding to a code. Fitted, exported as a graph, and run.

binarizer             runs the graph of a bundle's binarizer: what the service uses
recurrent             the binarizer that is fitted: its definition in numpy, and what its graph must equal
recurrent_fit         fits it to embeddings
recurrent_graph       exports it
layout                chooses blocks and centering for a size by measured recall; fits what was chosen
budget                what a fit costs, and how it stays within its CPU seconds
candidates, trials    the layouts of a size; fitting and measuring one of them
training              the same for a collection's own embeddings, as the service needs it
residual              the binarizer of rescore codes: what a scan code leaves over; and its fit
residual_graph        exports it
products              what graphs multiply queries by, told by one process to the others of a service
pair                  the two binarizers of a bundle together
rescored              measures what a rescore code adds, and how many candidates it needs
rows, grid            the rows of a fit and their checks; the grid that codes lie on
int8                  8 bits a dim without any fit
training_free         a few bits a dim without any fit, and a rescore code
rotation              the random rotation of it
closed_form           the plain baseline: principal axes, turned and cut into levels
closed_form_graph     exports it
"""
