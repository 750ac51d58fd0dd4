"""Source, sampler, gates and session of a video stream."""
