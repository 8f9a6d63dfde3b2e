"""Augmentations of skeleton clips, for one clip in a pipeline or a batch on its device.

`geometry`, `joints`, `temporal` and `gesture` hold the augmentations: a pure function and, beside
it, a small class that draws its parameters. `functional` lists the functions, `chain` puts
augmentations in a row and knows the recipes of ``recipes.json``. `transforms` registers them with
MMAction2, among them ``MultiView``; `batched` makes the same views of a whole batch.
"""
