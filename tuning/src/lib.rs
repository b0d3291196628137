//! Host profiles and the checks behind `voxhall doctor`.
