"""A scan and a bundle: detect, say a verdict, calibrate the bundle anew on own scans."""
