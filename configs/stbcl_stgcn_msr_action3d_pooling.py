# The cheap second stream: attention over the frames of the graph stream itself.
_base_ = './stbcl_stgcn_msr_action3d.py'

model = dict(sequence=dict(_delete_=True, type='TemporalPooling'))
