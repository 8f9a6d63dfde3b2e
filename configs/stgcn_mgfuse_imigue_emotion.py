# As stgcn_mgfuse_imigue.py, and after every validation and test epoch the embedded judge (a
# lexicon, not a language model) tells win from lose with and without the predicted gestures.
# For a language model: judge=dict(kind='openai', base_url='http://localhost:8000/v1', model='…').
_base_ = './stgcn_mgfuse_imigue.py'

custom_hooks = [dict(type='EmotionEvalHook', template='post_match', judge=dict(kind='lexicon'))]
