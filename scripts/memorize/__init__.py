"""Memorization: does the model continue a training sequence as the sequence itself goes on?"""
