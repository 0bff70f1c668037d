//! What the manifests for containers grant, against what the unit grants.
