"""What the smoke study yielded when its golden file was written, so that no change of the code alters it unseen."""
