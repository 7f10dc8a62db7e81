"""Machinery shared by the reproductions of papers: definitions, records of finished work, tables and the report."""
