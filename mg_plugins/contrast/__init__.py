"""Learning without labels: two streams of one clip, contrasted within and across.

Everything here needs torch alone (the probes scikit-learn); ``mm`` registers it with MMAction2.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'learner': ['DualStream', 'Terms'],
        'losses': ['ContrastError', 'InfoNCE', 'MomentumQueue', 'NearestNeighbours', 'SupConLoss']
        + ['distribution_loss', 'effective_rank', 'info_nce', 'projector', 'spread'],
        'masked': ['MaskedMotion', 'SkeletonTransformer'],
        'probes': ['Features', 'evaluating', 'extract_features', 'features_of_batch', 'knn_probe']
        + ['left_out_knn', 'linear_probe', 'retrieval'],
        'streams': ['GraphPool', 'GRUStream', 'StreamFusion', 'limbs', 'pool_frames'],
    },
)
