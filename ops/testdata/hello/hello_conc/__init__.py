def main():
    print("hello from the venv")
