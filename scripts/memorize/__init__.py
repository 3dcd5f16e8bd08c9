"""Memorization: does the model continue a training row as the row itself goes on?"""
